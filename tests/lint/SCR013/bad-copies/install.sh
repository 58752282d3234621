#!/bin/bash
cp /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/manifests/etcd.yaml.bak # expect: SCR013
sed -i.orig s/a/b/ /etc/kubernetes/manifests/kube-apiserver.yaml # expect: SCR013
cp /etc/kubernetes/manifests/etcd.yaml{,.bak} # expect: SCR013
cd /etc/kubernetes/manifests
mv etcd.yaml etcd.yaml-20240228 # expect: SCR013
