/* The little that a program without a C library needs of the system. */
#ifndef RUNTIME_H
#define RUNTIME_H

#include <stddef.h>
#include <stdint.h>

void leave(int status) __attribute__((noreturn));
void read_all(void *to, uint32_t bytes);         /* from standard input */
void write_all(const void *from, uint32_t bytes); /* to standard output */

#endif
