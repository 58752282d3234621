#!/bin/bash
killall -0 nginx
