#!/bin/bash
vim /var/lib/kubelet/config.yaml
systemctl restart kubelet
cat /etc/kubernetes/manifests/etcd.yaml
systemctl restart kubelet
