/* The host's threads that run a program together, and where they wait for one another. */
#ifndef PYODL_TEAM_H
#define PYODL_TEAM_H

#include "arguments.h"

#include <sched.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* The calling thread in its team, which may have fewer threads than were asked for. */
static inline pyodl_team team_here(void) {
#ifdef _OPENMP
    return (pyodl_team){omp_get_thread_num(), omp_get_num_threads()};
#else
    return (pyodl_team){0, 1};
#endif
}

/* How many arrivals there have been, in a cache line of its own. */
typedef struct {
    _Alignas(64) unsigned arrivals;
    char rest[60];
} pyodl_barrier;

/* How often to look before the processor is left to others: some tens of microseconds. */
enum { PYODL_LOOKS = 1000 };

static inline void team_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until all of a team have come; what any of them wrote before, all of them see afterwards.
 *
 * OpenMP's own barrier takes more than twice as long, which counts where a step has a hundred. One
 * counter, which only grows, is enough: who arrives waits for the last of the round. */
static inline void team_meet(pyodl_barrier *barrier, pyodl_team team) {
    unsigned threads = (unsigned)team.threads;
    if (threads == 1)
        return;
    unsigned arrival = __atomic_fetch_add(&barrier->arrivals, 1, __ATOMIC_ACQ_REL);
    unsigned before = arrival - arrival % threads;
    for (int looks = 0; __atomic_load_n(&barrier->arrivals, __ATOMIC_ACQUIRE) - before < threads;) {
        if (looks < PYODL_LOOKS) {
            looks++;
            team_pause();
        } else {
            sched_yield();
        }
    }
}

#endif
