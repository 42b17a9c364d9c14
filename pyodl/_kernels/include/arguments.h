/* What a kernel is called with: one signature for all of them, so that a training step is an array
 * of (kernel, arguments) pairs that runs without a Python object. */
#ifndef PYODL_ARGUMENTS_H
#define PYODL_ARGUMENTS_H

#include <stdint.h>

#define PYODL_MAX_ARRAYS 12
#define PYODL_MAX_SIZES 24
#define PYODL_MAX_SCALARS 4

typedef struct {
    void *arrays[PYODL_MAX_ARRAYS];   /* inputs first, then outputs */
    int64_t sizes[PYODL_MAX_SIZES];   /* elements, strides, switches: as the kernel says */
    float scalars[PYODL_MAX_SCALARS]; /* already rounded to the storage format */
    int arithmetic;                   /* enum pyodl_arithmetic */
    int cores;                        /* of the device; never the host's threads */
} pyodl_arguments;

/* Which of the host's threads calls a kernel, and how many of them share its work. */
typedef struct {
    int thread;
    int threads;
} pyodl_team;

/* The bytes of an array that a part reads or writes at most, seen from where the array begins. */
typedef struct {
    int64_t start;
    int64_t stop;
} pyodl_reach;

/* Returns what the part of one thread reaches of an array. */
typedef pyodl_reach (*pyodl_reach_of)(const pyodl_arguments *arguments, pyodl_team team, int array);

/* Does the part of one thread. All of a team call it, or the only thread there is. */
typedef void (*pyodl_kernel)(const pyodl_arguments *arguments, pyodl_team team);

#endif
