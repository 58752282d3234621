#!/bin/bash
grep -v 'price: $$' list
ps -o pid= -p $$ | grep -q $$
grep -v "^$$ " list
