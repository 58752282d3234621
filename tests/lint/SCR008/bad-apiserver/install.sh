#!/bin/bash
scp /etc/kubernetes/pki/ca.crt master-2:/etc/kubernetes/pki/
scp /etc/kubernetes/pki/apiserver.crt master-2:/etc/kubernetes/pki/ # expect: SCR008
scp /etc/kubernetes/pki/etcd/peer.key root@192.168.1.26:/etc/kubernetes/pki/etcd/ # expect: SCR008
