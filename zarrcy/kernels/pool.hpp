// The worker pool of the process, and what each of its threads keeps between calls.
#pragma once
#include <cstddef>

// The work for item i. It must not throw and must not touch Python. Not zero means failure: the remaining items are
// skipped.
using ItemFunction = int (*)(void* context, size_t i);

// Runs function(context, 0 … n-1) on at most n_threads threads, the caller being one of them. Returns 0 or the first
// failure. The caller never waits for a worker to become free: it drains its own items, so that nested and concurrent
// calls cannot deadlock, and a call on a busy pool, or in a forked child, is slower but never stuck.
int parallel_for(size_t n, int n_threads, ItemFunction function, void* context) noexcept;

// How many worker threads were started in this process so far.
size_t n_pool_threads() noexcept;

// How to make and free a context that a thread keeps, such as a decompressor. Compared by address.
struct ContextKind {
  void* (*make)();
  void (*destroy)(void*);
};

// What one thread keeps between calls: scratch buffers and contexts. Freed when the thread ends.
struct Worker;
Worker* current_worker() noexcept;

// Around foreign code that runs on this thread while scratch of its worker is in use: a codec in Python, or a signal
// handler, may itself read an array. Until resume_worker the thread has another, empty worker. false when memory is
// short; then nothing is to be resumed.
bool suspend_worker() noexcept;
void resume_worker() noexcept;

// The buffer `slot` (0 … 47) of this worker, at least nbytes long, contents undefined; nullptr when memory is short.
// Valid until the same slot is asked for again.
char* worker_scratch(Worker* worker, int slot, size_t nbytes) noexcept;

// This worker's context of that kind, made on first use; nullptr when memory is short.
void* worker_context(Worker* worker, const ContextKind* kind) noexcept;

// What work that takes long on this worker asks between its pieces, until another function or nullptr is set. Not zero
// tells it to end.
using StopFunction = int (*)(void* context);
void worker_listen(Worker* worker, StopFunction stops, void* context) noexcept;
bool worker_is_stopped(Worker* worker) noexcept;

// Frees scratch buffers beyond keep_nbytes each: called at the end of a transfer, so that scratch does not grow for
// ever.
void worker_trim(Worker* worker, size_t keep_nbytes) noexcept;
