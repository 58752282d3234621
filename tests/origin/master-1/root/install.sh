#!/bin/bash
dnf install -y nginx keepalived nginx-all-modules

systemctl daemon-reload
systemctl enable keepalived.service
systemctl enable --now nginx.service

unset http_proxy
unset https_proxy

kubeadm init --image-repository=registry.aliyuncs.com/google_containers \
--control-plane-endpoint=192.168.1.31 \
--service-cidr=10.96.0.0/16 --pod-network-cidr=10.244.0.0/16 --cri-socket=unix:///var/run/cri-dockerd.sock

mkdir -p /etc/kubernetes/pki/etcd

scp /etc/kubernetes/pki/ca.crt master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/ca.key master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/sa.key master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/sa.pub master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/front-proxy-ca.crt master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/front-proxy-ca.key master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/etcd/ca.crt master-2:/etc/kubernetes/pki/etcd/
scp /etc/kubernetes/pki/etcd/ca.key master-2:/etc/kubernetes/pki/etcd/

scp /etc/kubernetes/pki/ca.crt master-3:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/ca.key master-3:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/sa.key master-3:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/sa.pub master-3:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/front-proxy-ca.crt master-3:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/front-proxy-ca.key master-3:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/etcd/ca.crt master-3:/etc/kubernetes/pki/etcd/
scp /etc/kubernetes/pki/etcd/ca.key master-3:/etc/kubernetes/pki/etcd/

kubeadm token create --print-join-command
