#!/bin/bash
vim /etc/kubernetes/manifests/etcd.yaml
systemctl restart kubelet.service # expect: SCR015
