// A stand-in for the CUDA driver (libcuda): its "device" is this process. Memory is host memory,
// work is done when it is queued, kernels run through the shim. What the launch code may get wrong
// ends the process with a reason: an address that is not alive, memory used past its end or after
// it was freed (each allocation ends at a page that can't be touched), a kernel or stream that does
// not exist, a launch of a shape the kernels are not written for.
//
// Signatures: cuda.h of CUDA 12. Only what src/device calls is here; a missing one fails to load.
#include "../shim/shim.h"
#undef SHIM_EXPORT

#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace driver {
[[noreturn]] inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "stand-in driver: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    abort();
}

struct Allocation { char *map; size_t mapped, bytes; };
struct Counters { uint64_t live_bytes, live_blocks, to_device, to_host, launches; };

std::mutex lock;
std::map<uint64_t, Allocation> alive;
std::set<void *> streams, events;
Counters counters;
uint64_t limit = ~0ull;

// A kernel argument: pointers must point into living memory.
template <class T> void check(const char *, const T &) {}
template <class T> void check(const char *kernel, T *const &pointer) {
    if (pointer == nullptr) return;
    auto address = (uint64_t)pointer;
    auto after = alive.upper_bound(address);
    if (after == alive.begin() || address >= std::prev(after)->first + std::prev(after)->second.bytes)
        fail("%s was given %p, which is in no living allocation", kernel, (void *)pointer);
    if (address % alignof(T)) fail("%s was given %p, which is not aligned", kernel, (void *)pointer);
}

template <class... A, size_t... I>
void check_all(const char *name, void (*)(A...), void **args, std::index_sequence<I...>) {
    (check(name, *static_cast<std::remove_const_t<A> *>(args[I])), ...);
}

template <class... A>
void run(const char *name, void (*kernel)(A...), const unsigned *grid, const unsigned *block,
         void **args) {
    check_all(name, kernel, args, std::index_sequence_for<A...>{});
    shim::launch(kernel, grid, block, args);
}

using Launcher = void (*)(const unsigned *, const unsigned *, void **);
inline std::map<std::string, Launcher> &kernels() {
    static std::map<std::string, Launcher> all;
    return all;
}
struct Registered {
    Registered(const char *name, Launcher launcher) { kernels()[name] = launcher; }
};
}  // namespace driver

#define SHIM_EXPORT(kernel)                                                                       \
    static driver::Registered registered_##kernel(                                                \
        #kernel, [](const unsigned *grid, const unsigned *block, void **args) {                   \
            driver::run(#kernel, &kernel, grid, block, args);                                     \
        });

// All of kernels/, listed by the test that compiles this.
#include "kernels.inc"

using namespace driver;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500 };
using Address = unsigned long long;
using Guard = std::lock_guard<std::mutex>;

static int allocate(Address *out, size_t bytes) {
    Guard guard(lock);
    if (bytes == 0) return INVALID_VALUE;
    if (counters.live_bytes + bytes > limit) return OUT_OF_MEMORY;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    // Sixteen bytes are what vector loads ask for; what is left before the page is the slack.
    size_t room = (bytes + 15) / 16 * 16;
    size_t mapped = (room + page - 1) / page * page + page;
    auto *map = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + mapped - page, page, PROT_NONE)) fail("no memory");
    char *start = map + mapped - page - room;
    // Fresh memory holds anything.
    memset(start, 0xA5, bytes);
    alive[(uint64_t)start] = {map, mapped, bytes};
    counters.live_bytes += bytes;
    counters.live_blocks++;
    *out = (Address)start;
    return SUCCESS;
}

static int release(Address address) {
    Guard guard(lock);
    auto found = alive.find(address);
    if (found == alive.end()) fail("free of %p, which is not alive", (void *)address);
    counters.live_bytes -= found->second.bytes;
    counters.live_blocks--;
    munmap(found->second.map, found->second.mapped);
    alive.erase(found);
    return SUCCESS;
}

static char *inside(Address address, size_t bytes, const char *call) {
    Guard guard(lock);
    auto after = alive.upper_bound(address);
    if (after == alive.begin()) fail("%s at %p, which is not alive", call, (void *)address);
    auto &[start, block] = *std::prev(after);
    if (address + bytes > start + block.bytes) fail("%s leaves its allocation", call);
    return (char *)address;
}

static void *made(std::set<void *> &all) {
    Guard guard(lock);
    void *handle = malloc(1);
    all.insert(handle);
    return handle;
}

static void known(std::set<void *> &all, void *handle, const char *call, bool ends = false) {
    Guard guard(lock);
    if (!all.count(handle)) fail("%s of a handle that is not alive", call);
    if (ends) all.erase(handle);
}

extern "C" {
// For the test.
void stand_in_counters(Counters *out) { Guard guard(lock); *out = counters; }
void stand_in_limit(uint64_t bytes) { limit = bytes; }

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 12020; return SUCCESS; }
int cuGetErrorName(int code, const char **name) {
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
    return SUCCESS;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "out of memory" : "error";
    return SUCCESS;
}
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID_DEVICE : SUCCESS; }
int cuDeviceGetName(char *name, int length, int) {
    snprintf(name, (size_t)length, "stand-in");
    return SUCCESS;
}
// Compute capability 8.0, memory pools; the rest is not asked for.
int cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? 8 : attribute == 115 ? 1 : 0;
    return SUCCESS;
}
static char context;
int cuDevicePrimaryCtxRetain(void **out, int) { *out = &context; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxGetCurrent(void **out) { *out = &context; return SUCCESS; }
int cuCtxSetCurrent(void *) { return SUCCESS; }
int cuCtxSynchronize() { return SUCCESS; }

int cuStreamCreate(void **out, unsigned) { *out = made(streams); return SUCCESS; }
int cuStreamDestroy_v2(void *stream) { known(streams, stream, "cuStreamDestroy", true); return SUCCESS; }
int cuStreamSynchronize(void *stream) { known(streams, stream, "cuStreamSynchronize"); return SUCCESS; }
int cuStreamWaitEvent(void *stream, void *event, unsigned) {
    known(streams, stream, "cuStreamWaitEvent");
    known(events, event, "cuStreamWaitEvent");
    return SUCCESS;
}
int cuStreamIsCapturing(void *, int *status) { *status = 0; return SUCCESS; }
int cuEventCreate(void **out, unsigned) { *out = made(events); return SUCCESS; }
int cuEventDestroy_v2(void *event) { known(events, event, "cuEventDestroy", true); return SUCCESS; }
int cuEventRecord(void *event, void *stream) {
    known(events, event, "cuEventRecord");
    known(streams, stream, "cuEventRecord");
    return SUCCESS;
}
int cuEventSynchronize(void *event) { known(events, event, "cuEventSynchronize"); return SUCCESS; }
int cuEventQuery(void *event) { known(events, event, "cuEventQuery"); return SUCCESS; }

int cuMemAlloc_v2(Address *out, size_t bytes) { return allocate(out, bytes); }
int cuMemAllocAsync(Address *out, size_t bytes, void *stream) {
    known(streams, stream, "cuMemAllocAsync");
    return allocate(out, bytes);
}
int cuMemFree_v2(Address address) { return release(address); }
int cuMemFreeAsync(Address address, void *stream) {
    known(streams, stream, "cuMemFreeAsync");
    return release(address);
}
int cuMemsetD8Async(Address address, unsigned char value, size_t bytes, void *stream) {
    known(streams, stream, "cuMemsetD8Async");
    memset(inside(address, bytes, "cuMemsetD8Async"), value, bytes);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
    known(streams, stream, "cuMemcpyHtoDAsync");
    memcpy(inside(to, bytes, "cuMemcpyHtoDAsync"), from, bytes);
    counters.to_device += bytes;
    return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
    known(streams, stream, "cuMemcpyDtoHAsync");
    memcpy(to, inside(from, bytes, "cuMemcpyDtoHAsync"), bytes);
    counters.to_host += bytes;
    return SUCCESS;
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    known(streams, stream, "cuMemcpyDtoDAsync");
    memcpy(inside(to, bytes, "cuMemcpyDtoDAsync"), inside(from, bytes, "cuMemcpyDtoDAsync"), bytes);
    return SUCCESS;
}

// A module is its text; every kernel is in this library whatever it says.
int cuModuleLoadData(void **out, const void *image) {
    *out = new std::string((const char *)image);
    return SUCCESS;
}
int cuModuleUnload(void *module) { delete (std::string *)module; return SUCCESS; }
int cuModuleGetFunction(void **out, void *module, const char *name) {
    auto found = kernels().find(name);
    bool declared = ((std::string *)module)->find(name) != std::string::npos;
    if (found == kernels().end() || !declared) return NOT_FOUND;
    *out = (void *)found->second;
    return SUCCESS;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **args, void **extra) {
    known(streams, stream, "cuLaunchKernel");
    if (gy != 1 || gz != 1 || bx != 256 || by != 1 || bz != 1 || shared || extra)
        fail("a launch of %ux%ux%u blocks of %ux%ux%u threads", gx, gy, gz, bx, by, bz);
    unsigned grid[] = {gx, 1, 1}, block[] = {bx, 1, 1};
    ((Launcher)function)(grid, block, args);
    counters.launches++;
    return SUCCESS;
}
}
