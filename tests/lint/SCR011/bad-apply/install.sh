#!/bin/bash
kubectl apply -f tigera-operator.yaml # expect: SCR011
kubectl apply -f https://raw.githubusercontent.com/projectcalico/calico/v3.27.0/manifests/tigera-operator.yaml # expect: SCR011
