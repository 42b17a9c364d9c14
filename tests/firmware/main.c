/* A program without a C library: reads a tape from standard input, runs it, writes the results. */
#include <stddef.h>

#include "runtime.h"
#include "tape.h"

#define MEMORY (256u << 20)
#define STALE 0xdead /* what outputs hold before they are written */

static uint8_t memory[MEMORY] __attribute__((aligned(16)));
static uint32_t used;

void *scratch(uint32_t bytes)
{
    uint8_t *place = memory + used;
    bytes = (bytes + 15) & ~15u;
    if (bytes > MEMORY - used)
        leave(3);
    used += bytes;
    return place;
}

typedef struct {
    uint32_t elements, given;
} description;

static void *operand(void *const *tensors, int32_t index)
{
    return index == NONE ? NULL : tensors[index];
}

static void run(const operation *op, void *const *tensors)
{
    static run_function *const arithmetics[] = {run_fma, run_muladd, run_fp32acc};
    void *in[4], *out[2];
    uint32_t before = used;
    for (int i = 0; i < 4; i++)
        in[i] = operand(tensors, op->inputs[i]);
    for (int i = 0; i < 2; i++)
        out[i] = operand(tensors, op->outputs[i]);
    arithmetics[op->arithmetic](op, in, out);
    used = before;
}

int main(void)
{
    uint32_t head[3];
    read_all(head, sizeof head);
    if (head[0] != MAGIC)
        leave(2);
    description *described = scratch(head[1] * (uint32_t)sizeof(description));
    void **tensors = scratch(head[1] * (uint32_t)sizeof(void *));
    operation *operations = scratch(head[2] * (uint32_t)sizeof(operation));
    read_all(described, head[1] * (uint32_t)sizeof(description));
    for (uint32_t i = 0; i < head[1]; i++) {
        uint16_t *bits = tensors[i] = scratch((described[i].elements * 2 + 3) & ~3u);
        if (described[i].given)
            read_all(bits, (described[i].elements * 2 + 3) & ~3u);
        else
            for (uint32_t j = 0; j < described[i].elements; j++)
                bits[j] = STALE;
    }
    read_all(operations, head[2] * (uint32_t)sizeof(operation));
    for (uint32_t i = 0; i < head[2]; i++)
        run(operations + i, tensors);
    for (uint32_t i = 0; i < head[1]; i++)
        if (!described[i].given)
            write_all(tensors[i], described[i].elements * 2);
    return 0;
}
