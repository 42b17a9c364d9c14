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

/* Look once more, or leave the processor to others; return how often that was. */
static inline int team_look(int looks) {
    if (looks < PYODL_LOOKS)
        team_pause();
    else
        sched_yield();
    return looks + (looks < PYODL_LOOKS);
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
    for (int looks = 0; __atomic_load_n(&barrier->arrivals, __ATOMIC_ACQUIRE) - before < threads;)
        looks = team_look(looks);
}

/* How far a thread has come in its list, in a cache line of its own. */
typedef struct {
    _Alignas(64) int done;
    char rest[60];
} pyodl_progress;

static inline void team_tell(pyodl_progress *own, int done) {
    __atomic_store_n(&own->done, done, __ATOMIC_RELEASE);
}

/* Fetch what another thread has written into this one's cache, from end to end: in the order in which
 * a kernel reads it, processors fetch a line at a time. */
static inline void team_fetch(uintptr_t start, uintptr_t stop) {
    for (uintptr_t line = start; line < stop; line += 64)
        __builtin_prefetch((const void *)line, 0, 3);
}

/* Wait until another thread has come so far; what it wrote before is seen afterwards. */
static inline void team_await(const pyodl_progress *other, int place) {
    for (int looks = 0; __atomic_load_n(&other->done, __ATOMIC_ACQUIRE) < place;)
        looks = team_look(looks);
}

#endif
