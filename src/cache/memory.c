#include "postgres.h"
#include "cache/memory.h"
void sc_memory_request(void) {}
void sc_memory_startup(void) {}
void sc_memory_fence(const char *entries, uint32 length) {}
void sc_memory_lift(const char *entries, uint32 length, bool committed) {}
