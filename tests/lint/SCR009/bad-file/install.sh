#!/bin/bash
kubeadm token create --print-join-command > /root/join.sh # expect: SCR009
kubeadm token create --print-join-command | tee -a /root/join.log # expect: SCR009
