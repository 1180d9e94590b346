#include "pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace {

// Scratch that a worker keeps between jobs. Larger buffers go back, so that one huge chunk does not pin its size for
// ever.
constexpr size_t kKeepNbytes = size_t{16} << 20;

// The kernel copies a file into a buffer at a fifth of its speed when the buffer begins at 16 bytes past a page, where
// malloc puts large ones, and at full speed from 32 on (measured: 8 MiB in 2.6 ms and 0.5 ms).
constexpr size_t kAlignment = 128;

// musl gives a thread 128 KiB, macOS 512 KiB; blosclz alone has tables of 64 KiB and more on the stack.
constexpr size_t kStackNbytes = size_t{4} << 20;

struct Job {
  size_t n;
  ItemFunction function;
  void* context;
  int free_slots;   // workers that may still join; guarded by the pool's mutex
  int active = 0;   // workers inside; guarded by the pool's mutex
  std::atomic<size_t> next{0};
  std::atomic<int> failure{0};

  void drain() noexcept {
    while (!failure.load(std::memory_order_relaxed)) {
      size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= n) return;
      if (int code = function(context, i)) {
        int none = 0;
        failure.compare_exchange_strong(none, code);
      }
    }
  }
};

class Pool {
 public:
  int run(size_t n, int n_threads, ItemFunction function, void* context) {
    Job job{n, function, context, static_cast<int>(std::min<size_t>(n_threads, n)) - 1};
    const bool shared = job.free_slots > 0 && offer(job);
    job.drain();
    if (shared) withdraw(job);
    return job.failure.load();
  }
  size_t n_threads() {
    std::lock_guard<std::mutex> lock(mutex);
    return n_started;
  }
  std::mutex mutex;

 private:
  bool offer(Job& job) {
    std::lock_guard<std::mutex> lock(mutex);
    try {
      jobs.push_back(&job);
    } catch (...) {   // no memory to be had: the caller does the work alone
      return false;
    }
    while (n_started < static_cast<size_t>(job.free_slots) && start()) ++n_started;
    if (job.free_slots == 1) wake.notify_one(); else wake.notify_all();
    return true;
  }
  void withdraw(Job& job) {
    std::unique_lock<std::mutex> lock(mutex);
    jobs.erase(std::remove(jobs.begin(), jobs.end(), &job), jobs.end());
    done.wait(lock, [&] { return job.active == 0; });
  }
  bool start() {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackNbytes);
    pthread_t thread;
    const int code = pthread_create(&thread, &attributes, [](void* self) -> void* {
      static_cast<Pool*>(self)->work();
      return nullptr;
    }, this);
    pthread_attr_destroy(&attributes);
    return code == 0;
  }
  void work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return !jobs.empty(); });
      Job* job = jobs.front();
      if (--job->free_slots == 0) jobs.pop_front();
      ++job->active;
      lock.unlock();
      job->drain();
      worker_trim(current_worker(), kKeepNbytes);
      lock.lock();
      if (--job->active == 0) done.notify_all();
    }
  }
  std::condition_variable wake, done;
  std::deque<Job*> jobs;
  size_t n_started = 0;
};

// Leaked on purpose: detached workers may outlive static destructors. A forked child has no workers and gets a fresh
// pool.
Pool* the_pool;

Pool& pool() {
  static const bool once = [] {
    the_pool = new Pool;
    pthread_atfork([] { the_pool->mutex.lock(); }, [] { the_pool->mutex.unlock(); }, [] { the_pool = new Pool; });
    return true;
  }();
  (void)once;
  return *the_pool;
}

constexpr int kSlots = 48;

}  // namespace

struct Worker {
  Worker* suspended = nullptr;   // of the same thread
  char* buffers[kSlots] = {};
  size_t capacities[kSlots] = {};
  std::vector<std::pair<const ContextKind*, void*>> contexts;
  StopFunction stops = nullptr;
  void* stop_context = nullptr;

  ~Worker() {
    for (char* buffer : buffers) std::free(buffer);
    for (auto& [kind, context] : contexts) kind->destroy(context);
  }
};

int parallel_for(size_t n, int n_threads, ItemFunction function, void* context) noexcept {
  if (n_threads <= 1 || n <= 1) {
    for (size_t i = 0; i < n; ++i)
      if (int code = function(context, i)) return code;
    return 0;
  }
  return pool().run(n, n_threads, function, context);
}

size_t n_pool_threads() noexcept { return pool().n_threads(); }

namespace {

// The worker of a thread that has nothing suspended, and the one in use.
struct ThreadWorkers {
  Worker first;
  Worker* current = &first;
};

ThreadWorkers& thread_workers() noexcept {
  thread_local ThreadWorkers workers;
  return workers;
}

}  // namespace

Worker* current_worker() noexcept { return thread_workers().current; }

bool suspend_worker() noexcept {
  Worker* fresh = new (std::nothrow) Worker;
  if (!fresh) return false;
  fresh->suspended = thread_workers().current;
  thread_workers().current = fresh;
  return true;
}

void resume_worker() noexcept {
  Worker* done = thread_workers().current;
  thread_workers().current = done->suspended;
  delete done;
}

char* worker_scratch(Worker* worker, int slot, size_t nbytes) noexcept {
  if (nbytes > PTRDIFF_MAX - 4096) return nullptr;
  if (worker->capacities[slot] < nbytes || !worker->buffers[slot]) {
    std::free(worker->buffers[slot]);
    const size_t capacity = (nbytes + 4096) & ~size_t{4095};
    worker->buffers[slot] = static_cast<char*>(std::aligned_alloc(kAlignment, capacity));
    worker->capacities[slot] = worker->buffers[slot] ? capacity : 0;
  }
  return worker->buffers[slot];
}

void* worker_context(Worker* worker, const ContextKind* kind) noexcept {
  for (auto& [known, context] : worker->contexts)
    if (known == kind) return context;
  void* context = kind->make();
  if (!context) return nullptr;
  try {
    worker->contexts.emplace_back(kind, context);
  } catch (...) {
    kind->destroy(context);
    return nullptr;
  }
  return context;
}

void worker_listen(Worker* worker, StopFunction stops, void* context) noexcept {
  worker->stops = stops;
  worker->stop_context = context;
}

bool worker_is_stopped(Worker* worker) noexcept { return worker->stops && worker->stops(worker->stop_context); }

void worker_trim(Worker* worker, size_t keep_nbytes) noexcept {
  for (int slot = 0; slot < kSlots; ++slot)
    if (worker->capacities[slot] > keep_nbytes) {
      std::free(worker->buffers[slot]);
      worker->buffers[slot] = nullptr;
      worker->capacities[slot] = 0;
    }
}
