/* A libnvidia-ml.so.1 with one GPU of 100 W, for the real Python binding to talk to. Names and layouts are NVML's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef void *device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;
enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned flags) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "Unknown Error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = 1, SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *handle) { return *handle = (device)0x1, SUCCESS; }
int nvmlDeviceGetUUID(device d, char *text, unsigned size) { return snprintf(text, size, "GPU-c0ffee"), SUCCESS; }
int nvmlDeviceGetName(device d, char *text, unsigned size) { return snprintf(text, size, "Fake GPU"), SUCCESS; }
int nvmlDeviceGetPowerUsage(device d, unsigned *milliwatts) { return *milliwatts = 100000, SUCCESS; }

/* Counts every 10 ms, as the driver does at its own pace. */
int nvmlDeviceGetTotalEnergyConsumption(device d, unsigned long long *millijoules) {
    struct timespec now;
    if (getenv("FAKE_NVML_NO_COUNTER")) return NOT_SUPPORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *millijoules = (now.tv_sec * 100ULL + now.tv_nsec / 10000000) * 1000;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device d, memory *m) {
    m->total = 1 << 30, m->used = 1 << 20, m->free = m->total - m->used;
    return SUCCESS;
}

/* Our own process with 12,345 bytes; called first without room, to ask how many there are. */
int nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *count, process *found) {
    if (*count < 1) return *count = 1, INSUFFICIENT_SIZE;
    memset(found, 0, sizeof *found);
    found->pid = getpid(), found->used = 12345, *count = 1;
    return SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device d, unsigned *count, process *found) { return *count = 0, SUCCESS; }
