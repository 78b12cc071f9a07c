# two jobs on three machines, the second without work on the last one
2 3
0 3 1 2 2 2
1 4 2 0 0 1
