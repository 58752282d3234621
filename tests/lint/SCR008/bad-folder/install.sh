#!/bin/bash
scp -r /etc/kubernetes/pki master-2:/etc/kubernetes/ # expect: SCR008
