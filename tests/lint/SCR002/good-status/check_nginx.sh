#!/bin/bash
systemctl is-active --quiet nginx || exit 1
