// A stand-in for the run-time compiler (libnvrtc): a program's PTX is its text.
#include <cstring>
#include <string>

extern "C" {
const char *nvrtcGetErrorString(int) { return "error"; }
int nvrtcVersion(int *major, int *minor) { *major = 0; *minor = 1; return 0; }
int nvrtcCreateProgram(void **out, const char *text, const char *, int, const char *const *,
                       const char *const *) {
    *out = new std::string(text);
    return 0;
}
int nvrtcCompileProgram(void *, int, const char *const *) { return 0; }
int nvrtcDestroyProgram(void **program) { delete (std::string *)*program; *program = nullptr; return 0; }
int nvrtcGetPTXSize(void *program, size_t *size) { *size = ((std::string *)program)->size() + 1; return 0; }
int nvrtcGetPTX(void *program, char *out) {
    auto &text = *(std::string *)program;
    memcpy(out, text.c_str(), text.size() + 1);
    return 0;
}
int nvrtcGetProgramLogSize(void *, size_t *size) { *size = 1; return 0; }
int nvrtcGetProgramLog(void *, char *log) { *log = 0; return 0; }
}
