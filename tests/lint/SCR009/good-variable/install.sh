#!/bin/bash
join=$(kubeadm token create --print-join-command 2>/dev/null)
ssh node-1 "$join"
kubeadm token list > /root/tokens
