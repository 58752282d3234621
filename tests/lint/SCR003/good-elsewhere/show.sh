#!/bin/bash
ps -ef | grep nginx
