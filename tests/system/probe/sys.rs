//! The system calls of the probe, as plain as they come: what a wrapper would check first is what
//! is tried here. The only unsafe code of the tests.

#![expect(
    unsafe_code,
    reason = "system calls that no library offers, or only after checks of its own"
)]

use std::ffi::CString;
use std::io;
use std::ptr::{null, null_mut};

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::Attempt;

/// How a child ended that made one attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    Done,
    Failed(Errno),
    Signal(i32),
}

/// Makes the attempt in a child of its own.
pub(super) fn in_child(attempt: impl FnOnce() -> Attempt) -> Ended {
    // SAFETY: the probe has one thread when it forks, so no lock is held by another.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let errno = attempt().map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0);
            // SAFETY: ends the child at once, without what the parent has registered or buffered.
            unsafe { libc::_exit(errno) }
        }
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ended::Done,
            Ok(WaitStatus::Exited(_, errno)) => Ended::Failed(Errno::from_raw(errno)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ended::Signal(signal as i32),
            other => panic!("a child ended as {other:?}"),
        },
        Err(errno) => panic!("cannot fork: {errno}"),
    }
}

/// A system call by number; pointers among the arguments must be good for what the call does with
/// them.
unsafe fn call(number: c_long, arguments: [usize; 6]) -> io::Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A call whose arguments are all numbers.
pub(super) fn plain(number: c_long, arguments: &[usize]) -> io::Result<usize> {
    let mut all = [0; 6];
    for (slot, argument) in all.iter_mut().zip(arguments) {
        *slot = *argument;
    }
    // SAFETY: no pointers but null ones, which the kernel refuses itself.
    unsafe { call(number, all) }
}

/// A call whose first arguments are texts, the others numbers.
pub(super) fn with_texts(number: c_long, texts: &[&str], rest: &[usize]) -> io::Result<usize> {
    let texts: Vec<CString> = texts
        .iter()
        .map(|text| CString::new(*text).expect("no zero byte"))
        .collect();
    let mut all = [0; 6];
    let pointers = texts.iter().map(|text| text.as_ptr() as usize);
    for (slot, argument) in all.iter_mut().zip(pointers.chain(rest.iter().copied())) {
        *slot = argument;
    }
    // SAFETY: the texts outlive the call, which reads them only.
    unsafe { call(number, all) }
}

/// A call with numbers, some bytes that it may read or write, and more numbers.
pub(super) fn with_bytes(
    number: c_long,
    before: &[usize],
    bytes: &mut [u8],
    after: &[usize],
) -> io::Result<usize> {
    let mut all = [0; 6];
    let numbers = before.iter().copied();
    let numbers = numbers.chain([bytes.as_mut_ptr() as usize]);
    for (slot, argument) in all.iter_mut().zip(numbers.chain(after.iter().copied())) {
        *slot = argument;
    }
    // SAFETY: the callers give room for the largest structure that their call knows.
    unsafe { call(number, all) }
}

/// Asks for one capability (capset(2)).
pub(super) fn capset(capability: u32) -> Attempt {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let bit = 1_u32 << capability;
    // Effective, permitted, inheritable; then the same of the upper half.
    let data = [bit, bit, 0, 0, 0, 0];
    let arguments = [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: both arrays have the layout of the structures and outlive the call.
    unsafe { call(libc::SYS_capset, arguments) }.map(drop)
}

/// Reads a byte of another process (process_vm_readv(2)).
pub(super) fn read_memory(process: usize) -> Attempt {
    let mut byte = [0_u8];
    let here = [byte.as_mut_ptr() as usize, 1];
    // Nothing is mapped so low, but permission is asked for first.
    let there = [1_usize, 1];
    let arguments = [
        process,
        here.as_ptr() as usize,
        1,
        there.as_ptr() as usize,
        1,
        0,
    ];
    // SAFETY: both have the layout of an iovec; the byte outlives the call, and the other address
    // is not ours.
    unsafe { call(libc::SYS_process_vm_readv, arguments) }.map(drop)
}

/// A child made with namespaces of its own.
pub(super) fn clone_into(flags: i32) -> Attempt {
    let flags = (flags | libc::SIGCHLD) as usize;
    let child = plain(libc::SYS_clone, &[flags])?;
    if child == 0 {
        // SAFETY: as in `in_child`.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// Memory that is writable and executable at once.
pub(super) fn map_writable_code() -> Attempt {
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    map(all).map(drop)
}

/// Memory that was written and is to be executed.
pub(super) fn make_code() -> Attempt {
    let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
    let executable = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: the page is ours, and nothing refers to it.
    match unsafe { libc::mprotect(page, 4096, executable) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn map(protection: i32) -> io::Result<*mut libc::c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new page, which is no one's else.
    let page = unsafe { libc::mmap(null_mut(), 4096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(page)
}

/// Executes a program that exists in memory only.
pub(super) fn execute_memory(program: &[u8]) -> Attempt {
    let memory = with_texts(libc::SYS_memfd_create, &["probe"], &[])?;
    let mut copy = program.to_vec();
    let length = copy.len();
    with_bytes(libc::SYS_write, &[memory], &mut copy, &[length])?;
    let empty = c"";
    let arguments = [c"true".as_ptr(), null()];
    let environment = [null::<libc::c_char>()];
    let numbers = [
        memory,
        empty.as_ptr() as usize,
        arguments.as_ptr() as usize,
        environment.as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    // SAFETY: all of them outlive the call, which does not come back if it succeeds.
    unsafe { call(libc::SYS_execveat, numbers) }.map(drop)
}
