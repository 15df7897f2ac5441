// The threads that share the work of one operation on the CPU. MLX runs the
// operations of a stream one after the other on one thread and has no threads of
// its own for what is inside one; OpenBLAS has, but they sleep and wake for each
// product, which a decode step has hundreds of.
#ifndef HARMONYD_MLX_CPU_POOL_H
#define HARMONYD_MLX_CPU_POOL_H

namespace hm {

// threads is how many threads work on an operation, the caller's included.
int threads();

// set_threads changes it for the operations that begin after it.
void set_threads(int n);

// run calls fn(arg, lo, hi) for the parts [lo, hi) of [0, n), which hold step
// items but for the last, on all threads, and returns when all are done. Which
// thread does which part is chance; fn must not depend on it. One thread may call
// run at a time, others do the work themselves.
void run(int n, int step, void (*fn)(void *arg, int lo, int hi), void *arg);

// parallel is run for anything callable.
template <class F>
void parallel(int n, int step, F &&fn) {
  run(n, step, [](void *f, int lo, int hi) { (*static_cast<F *>(f))(lo, hi); }, &fn);
}

} // namespace hm

#endif
