#!/bin/bash
rsync -a /etc/kubernetes/pki backup:/srv/master-1/
cp /etc/kubernetes/pki/apiserver.crt /root/old/
