#!/bin/bash
kubectl create -f tigera-operator.yaml
kubectl apply --server-side -f tigera-operator.yaml
kubectl apply -f custom-resources.yaml
