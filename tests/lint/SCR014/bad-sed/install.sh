#!/bin/bash
sed -i 's#--initial-cluster=.*#--initial-cluster=master-1=https://192.168.1.25:2380#' /etc/kubernetes/manifests/etcd.yaml # expect: SCR014
