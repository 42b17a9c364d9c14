/* What the program is given: tensors, and operations on them.
 *
 * All numbers are little-endian 32-bit words: MAGIC, tensors, operations; for each tensor its
 * elements and whether its bits follow; the bits of those, each tensor padded to whole words; the
 * operations. The program writes the bits of all other tensors, in order, without padding.
 */
#ifndef TAPE_H
#define TAPE_H

#include <stdint.h>

#define MAGIC 0x4c444f54u

/* In the order of OPERATIONS in firmware_harness.py. */
enum operation_kind {
    MATMUL,
    MATVEC,
    CONV2D_FORWARD,
    CONV2D_WEIGHT_GRAD,
    CONV2D_BIAS_GRAD,
    CONV2D_INPUT_GRAD,
    DEPTHWISE_FORWARD,
    DEPTHWISE_WEIGHT_GRAD,
    DEPTHWISE_INPUT_GRAD,
    POINTWISE_FORWARD,
    POINTWISE_WEIGHT_GRAD,
    POINTWISE_INPUT_GRAD,
    LINEAR_FORWARD,
    LINEAR_WEIGHT_GRAD,
    LINEAR_BIAS_GRAD,
    LINEAR_INPUT_GRAD,
    RELU_FORWARD,
    RELU_BACKWARD,
    ADD,
    ADD_BIAS,
    RESHAPE,
    AVG_POOL_FORWARD,
    AVG_POOL_BACKWARD,
    MAX_POOL_FORWARD,
    MAX_POOL_BACKWARD,
    CROSS_ENTROPY,
    CROSS_ENTROPY_GRAD,
    MSE,
    MSE_GRAD,
    SGD,
};

/* The order of ARITHMETICS in firmware_harness.py. */
enum arithmetic { ARITHMETIC_FMA, ARITHMETIC_MULADD, ARITHMETIC_FP32ACC };

#define NONE (-1)
#define MOST_NUMBERS 16

typedef struct {
    int32_t kind, arithmetic, cores, kernel;
    int32_t inputs[4], outputs[2]; /* tensors, or NONE */
    int32_t numbers[MOST_NUMBERS];
} operation;

/* Memory for the operation that runs; it is free again after it. */
void *scratch(uint32_t bytes);

/* The operation with its operands, in one of the arithmetics. */
typedef void run_function(const operation *op, void *const *in, void *const *out);
run_function run_fma, run_muladd, run_fp32acc;

#endif
