/* The little that a program without a C library needs of the system. */
#include "runtime.h"

static long system_call(long number, long a, long b, long c)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
}

void leave(int status)
{
    system_call(93, status, 0, 0);
    __builtin_unreachable();
}

/* The compiler calls these for copies and initialisations. */
void *memcpy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((volatile uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

void read_all(void *to, uint32_t bytes)
{
    uint8_t *place = to;
    while (bytes > 0) {
        long got = system_call(63, 0, (long)place, bytes);
        if (got <= 0)
            leave(4);
        place += got;
        bytes -= (uint32_t)got;
    }
}

void write_all(const void *from, uint32_t bytes)
{
    const uint8_t *place = from;
    while (bytes > 0) {
        long put = system_call(64, 1, (long)place, bytes);
        if (put <= 0)
            leave(5);
        place += put;
        bytes -= (uint32_t)put;
    }
}

int main(void);

void _start(void)
{
    leave(main());
}
