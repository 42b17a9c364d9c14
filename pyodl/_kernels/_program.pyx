"""Programs of bound kernels, which run without the interpreter on one thread or several."""

from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer,
)
from cython.parallel cimport parallel
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove, memset, strcmp

from pyodl._kernels._operation cimport Operation, divides_everything, run_alone
from pyodl._kernels._schedule cimport Schedule, Turn, Wait
from pyodl._kernels._spans cimport MOST_THREADS, Call
from pyodl._kernels._trial cimport (
    SETTLED, Trial, allocate, begin, deal_out_anew, deallocate, is_outdated, is_settled, listens,
    note_alone, note_rival, note_settled, settle_untried, team_is_quicker, wants_schedule,
)
from pyodl._kernels._types cimport Team, load_value, storage_format, store_value

from numpy import generic, ndarray


cdef extern from "include/host.h" nogil:
    double host_seconds() noexcept

cdef extern from "include/team.h" nogil:
    ctypedef struct Barrier "pyodl_barrier":
        unsigned arrivals
    ctypedef struct Progress "pyodl_progress":
        int done
    Team team_here() noexcept
    void team_meet(Barrier *, Team) noexcept
    void team_tell(Progress *, int) noexcept
    void team_await(const Progress *, int) noexcept
    void team_fetch(uintptr_t, uintptr_t) noexcept


TRIAL_RUNS = SETTLED


cdef void take_turns(const Schedule *schedule, int thread, Progress *progress) noexcept nogil:
    """Do a thread's tasks, each when those of others that it needs are done."""
    cdef const Turn *turn
    cdef int n, i
    for n in range(schedule.first[thread], schedule.first[thread + 1]):
        turn = &schedule.turns[n]
        for i in range(turn.first_wait, turn.first_wait + turn.waits):
            team_await(&progress[schedule.waits[i].thread], schedule.waits[i].place)
        for i in range(turn.first_fetch, turn.first_fetch + turn.fetches):
            team_fetch(schedule.fetches[i].start, schedule.fetches[i].stop)
        turn.kernel(turn.arguments, turn.part)
        if turn.place:
            team_tell(&progress[thread], turn.place)


cdef void take_turns_in_order(
    const Schedule *schedule, int count, Team team, Barrier *barrier, double *times
) noexcept nogil:
    """Do a thread's tasks in the program's order; all threads meet, and note when each begins."""
    cdef const Turn *turn
    cdef int i, n
    for i in range(count):
        team_meet(barrier, team)
        if team.thread == 0:
            times[i] = host_seconds()
        n = schedule.turn_of[i * team.threads + team.thread]
        if n >= 0:
            turn = &schedule.turns[n]
            turn.kernel(turn.arguments, turn.part)
    team_meet(barrier, team)
    if team.thread == 0:
        times[count] = host_seconds()


cdef void run_together(
    const Call *calls, int count, const Schedule *schedule, double *times
) noexcept nogil:
    """Run a program on its team, or on one thread if OpenMP gives another team."""
    cdef Progress progress[MOST_THREADS]
    cdef Barrier barrier
    cdef Team team
    barrier.arrivals = 0
    memset(progress, 0, sizeof(progress))
    with parallel(num_threads=schedule.threads):
        team = team_here()
        if team.threads != schedule.threads:
            if team.thread == 0:
                run_alone(calls, count, times)
        elif times != NULL:
            take_turns_in_order(schedule, count, team, &barrier, times)
        else:
            take_turns(schedule, team.thread, progress)


cdef class Program:
    """A fixed sequence of operations, run by one call.

    The first `TRIAL_RUNS` runs on several threads try out who does what (``_trial.pxd``). The
    quickest way stays for some thousand runs on as many threads; no bit depends on it.

    Parameters
    ----------
    operations : iterable of Operation
    """

    cdef Trial trial
    cdef int runs  # under way
    cdef readonly tuple operations

    def __cinit__(self, operations):
        cdef int i
        self.operations = tuple(operations)
        if not allocate(&self.trial, <int>len(self.operations)):
            raise MemoryError
        for i, operation in enumerate(self.operations):
            self.trial.calls[i] = (<Operation?>operation).call()

    def __dealloc__(self):
        deallocate(&self.trial)

    def __len__(self):
        return len(self.operations)

    cdef bint is_for(self, int threads) except -1:
        """Return whether a team is to run the program; begin a trial if there was none lately.

        Nothing is tried out, or made anew, while somebody runs the program.
        """
        if threads <= 1:
            return False
        if self.runs == 0 and (threads != self.trial.threads or is_outdated(&self.trial)):
            if not begin(&self.trial, threads):
                raise MemoryError
            if divides_everything() and not settle_untried(&self.trial):
                raise MemoryError
        return threads == self.trial.threads and team_is_quicker(&self.trial)

    cdef int try_out(self) except -1:
        """Run once, to learn something about this team."""
        cdef double start
        cdef bint alone = listens(&self.trial)
        if wants_schedule(&self.trial) and not deal_out_anew(&self.trial):
            raise MemoryError
        self.runs += 1
        with nogil:
            start = host_seconds()
            if alone:
                run_alone(self.trial.calls, self.trial.count, self.trial.times)
            else:
                run_together(
                    self.trial.calls, self.trial.count, &self.trial.rival.schedule, NULL)
        if alone:
            note_alone(&self.trial)
        else:
            note_rival(&self.trial, host_seconds() - start)
        self.runs -= 1
        return 0

    cdef void run_as_settled(self, bint together, double *times) noexcept:
        """Run on a team or alone; with ``times``, note when each operation began."""
        self.runs += 1
        with nogil:
            if together:
                run_together(
                    self.trial.calls, self.trial.count, &self.trial.best.schedule, times)
            else:
                run_alone(self.trial.calls, self.trial.count, times)
        self.runs -= 1

    def run(self, int num_threads=1):
        """Run every operation on ``num_threads`` host threads, as if in order; the GIL is released.

        All threads go through the program in one parallel region, each through its own tasks, and
        wait where one needs what another has done; or one thread does everything where that is
        quicker.
        """
        cdef bint together = self.is_for(num_threads)
        cdef bint counts = num_threads > 1 and self.runs == 0
        cdef double start
        if counts and not is_settled(&self.trial):
            self.try_out()
            return
        start = host_seconds()
        self.run_as_settled(together, NULL)
        if counts:
            note_settled(&self.trial, together, host_seconds() - start)

    def timed(self, int num_threads=1):
        """Run every operation and return a list of (name, seconds); threads meet before each.

        They are as many as `run` has settled for.
        """
        cdef int i
        cdef double *times = <double *>calloc(self.trial.count + 1, sizeof(double))
        if times == NULL:
            raise MemoryError
        try:
            self.run_as_settled(self.is_for(num_threads), times)
            return [(operation.name, times[i + 1] - times[i])
                    for i, operation in enumerate(self.operations)]
        finally:
            free(times)

    def parts(self, int num_threads):
        """Return who does what and when.

        Returns
        -------
        list of list of (int, int, int, dict)
            For each thread, in its order: number of an operation, the part of it, and of how many;
            how many tasks of which other threads are to be done before. It is one thread where
            `run` has not settled for more.
        """
        cdef const Turn *turn
        cdef const Wait *waits
        cdef const Schedule *schedule = &self.trial.best.schedule
        cdef int i, n, t, count = self.trial.count
        if not self.is_for(num_threads):
            return [[(i, 0, 1, {}) for i in range(count)]]
        turns = {}
        for i in range(count):
            for t in range(schedule.threads):
                n = schedule.turn_of[i * schedule.threads + t]
                if n >= 0:
                    turn = &schedule.turns[n]
                    waits = &schedule.waits[turn.first_wait]
                    turns[n] = (i, turn.part.thread, turn.part.threads,
                                {waits[k].thread: waits[k].place for k in range(turn.waits)})
        return [
            [turns[n] for n in range(schedule.first[t], schedule.first[t + 1])]
            for t in range(schedule.threads)
        ]


cdef class Step:
    """A network's training step: what goes in, its program and the loss that comes out.

    After a step the processor's caches hold the network's tensors, and neither the interpreter's
    code nor NumPy's: a few of their calls then take as long as a small layer. A step like the one
    before is hence one call, and calls nobody else.

    Parameters
    ----------
    program : Program
    image, target, loss : ndarray
        The network's own, in the storage format.
    arithmetic : int
    """

    cdef Program program
    cdef tuple arrays
    cdef tuple settings
    cdef int threads
    cdef Py_buffer image
    cdef Py_buffer target
    cdef const void *loss
    cdef int format
    cdef bint has_views

    def __init__(self, Program program, image, target, loss, int arithmetic):
        self.program = program
        self.arrays = (image, target, loss)
        self.settings = None
        self.threads = 1
        self.format = storage_format(arithmetic)
        self.loss = <const void *><uintptr_t>loss.__array_interface__["data"][0]
        try:
            PyObject_GetBuffer(image, &self.image, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
            PyObject_GetBuffer(target, &self.target, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError):  # bfloat16 has no views
            PyBuffer_Release(&self.image)
            return
        self.has_views = True

    def __dealloc__(self):
        if self.has_views:
            PyBuffer_Release(&self.image)
            PyBuffer_Release(&self.target)

    def settle(self, int threads, loss, lr, weight_decay, num_threads):
        """Remember the settings that have been checked and are in effect.

        Not those that may change behind our back, such as a rate in an array without dimensions.
        """
        settings = (loss, lr, weight_decay, num_threads)
        immutable = all(isinstance(each, (str, int, float, generic, type(None)))
                        for each in settings)
        self.threads = threads
        self.settings = settings if immutable else None

    def forget(self):
        """Forget the settings, which are in effect no longer."""
        self.settings = None

    def take(self, image, target, loss, lr, weight_decay, num_threads):
        """Take the step if nothing is to be checked; return its loss as stored, or None.

        The settings must be the very objects in effect, the image an array like the network's and
        the target one of its classes. Whatever else a step takes, and what it refuses, is left to
        others; then nothing is written.
        """
        if self.settings is None or not (
                self.settings[0] is loss and self.settings[1] is lr
                and self.settings[2] is weight_decay and self.settings[3] is num_threads):
            return None
        return self.run() if self.put(image, target) else None

    def run(self):
        """Run the program on what is there; return the loss as stored."""
        self.program.run(self.threads)
        return load_value(self.format, self.loss, 0)

    cdef bint put(self, image, target) except -1:
        """Copy an image in and make the target one-hot; return whether they could be taken."""
        cdef Py_buffer given
        cdef bint fits
        cdef int i
        if not self.has_views or type(image) is not ndarray or type(target) is not int:
            return False
        if self.target.ndim != 1 or not 0 <= target < self.target.shape[0]:
            return False
        try:
            PyObject_GetBuffer(image, &given, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError):
            return False
        fits = strcmp(given.format, self.image.format) == 0 and given.ndim == self.image.ndim
        for i in range(given.ndim if fits else 0):
            fits = fits and given.shape[i] == self.image.shape[i]
        if fits:
            memmove(self.image.buf, given.buf, self.image.len)
            memset(self.target.buf, 0, self.target.len)
            store_value(self.format, self.target.buf, target, 1.0)
        PyBuffer_Release(&given)
        return fits
