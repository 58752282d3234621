#!/bin/bash
setenforce 0 # expect: SCR016
systemctl disable --now firewalld # expect: SCR016
