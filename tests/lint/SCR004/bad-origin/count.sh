#!/bin/bash
counter=$(ps -ef |grep nginx | grep sbin | egrep -cv "grep|$$" ) # expect: SCR004
echo "$counter"
