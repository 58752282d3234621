#!/bin/bash
swapoff -a # expect: SCR018
