#!/bin/bash
cp /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml.bak
cp kube-vip.yaml /etc/kubernetes/manifests/kube-vip.yaml
mv /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/manifests/.etcd.yaml.bak
sed -i s/a/b/ /etc/kubernetes/manifests/etcd.yaml
cd /root
cp a.yaml a.yaml.bak
