//! What the `zmq` crate keeps from us: raw socket options, inherited listeners,
//! and frames that share their bytes; and memory that is shared with a worker. The only
//! `unsafe` of the router.
#![expect(unsafe_code, reason = "the calls of libzmq that the zmq crate does not offer")]

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions, read_link};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use zmq_sys::zmq_msg_t;

fn errno() -> Errno {
    // SAFETY: it takes nothing and reads the calling thread's errno.
    Errno::from_raw(unsafe { zmq_sys::zmq_errno() })
}

fn checked(result: c_int) -> Result<c_int, Errno> {
    if result == -1 { Err(errno()) } else { Ok(result) }
}

/// Sets an option whose value is a number.
pub(super) fn set_number(socket: &mut zmq::Socket, option: c_int, value: c_int) -> Result<(), Errno> {
    set_bytes(socket, option, &value.to_ne_bytes())
}

/// Sets an option whose value is bytes.
pub(super) fn set_bytes(socket: &mut zmq::Socket, option: c_int, value: &[u8]) -> Result<(), Errno> {
    let (data, size) = (value.as_ptr().cast::<c_void>(), value.len());
    // SAFETY: the socket is open while it is borrowed, and libzmq copies `size` bytes.
    let result = unsafe { zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), option, data, size) };
    checked(result).map(|_zero| ())
}

/// Becomes readable when libzmq's thread has something for the socket to hear: see `zmq_getsockopt`(3), `ZMQ_FD`.
pub(super) fn descriptor(socket: &zmq::Socket) -> BorrowedFd<'_> {
    let number = socket.get_fd().unwrap_or_default();
    // SAFETY: libzmq closes it with the socket, which lives as long as the borrow. It always has one; should it
    // say otherwise, 0 is open in every process of ours.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Seeds the generator that libzmq spreads its attempts to connect by, and never seeds itself.
pub(super) fn seed_rand(seed: u32) {
    // SAFETY: called before the first socket, while this process has one thread.
    unsafe { libc::srand(seed) };
}

/// A frame whose bytes are shared by its clones, if they are too many to copy.
pub(super) struct SharedFrame {
    // libzmq marks a message as shared when it is copied, so copying mutates.
    message: UnsafeCell<zmq_msg_t>,
}

impl SharedFrame {
    fn empty() -> Self {
        let mut message = zmq_msg_t::default();
        // SAFETY: `zmq_msg_init` takes any 64 bytes and cannot fail.
        unsafe { zmq_sys::zmq_msg_init(&raw mut message) };
        Self { message: UnsafeCell::new(message) }
    }

    /// A frame of these bytes, which stay where they are.
    pub(super) fn of(bytes: Box<[u8]>) -> Self {
        let (size, data) = (bytes.len(), Box::into_raw(bytes));
        let frame = Self::empty();
        // The number of bytes travels in the place of a pointer, which nobody follows.
        let hint = std::ptr::without_provenance_mut::<c_void>(size);
        // SAFETY: the message is empty, so nothing of it is lost. `data` points to `size` bytes that nobody else
        // knows; libzmq calls `give_back` once, when the last copy of the message is closed, on whatever thread.
        let result = unsafe {
            let data = data.cast::<c_void>();
            zmq_sys::zmq_msg_init_data(frame.message.get(), data, size, Some(give_back), hint)
        };
        if result == -1 {
            // SAFETY: libzmq had no memory for its count, and has not taken the bytes.
            unsafe { give_back(data.cast::<c_void>(), hint) };
            // SAFETY: what failed is no message, and any 64 bytes become an empty one.
            unsafe { zmq_sys::zmq_msg_init(frame.message.get()) };
        }
        frame
    }

    /// Takes the next frame off a socket, without waiting.
    pub(super) fn receive(socket: &mut zmq::Socket) -> Result<Self, Errno> {
        let frame = Self::empty();
        // SAFETY: both are initialized, and nobody else knows the message yet.
        let result =
            unsafe { zmq_sys::zmq_msg_recv(frame.message.get(), socket.as_mut_ptr(), zmq::DONTWAIT) };
        checked(result).map(|_size| frame)
    }

    /// Sends the frame, without waiting. The bytes stay shared with its clones.
    pub(super) fn send(self, socket: &mut zmq::Socket, flags: c_int) -> Result<(), Errno> {
        // SAFETY: both are initialized; on success libzmq leaves an empty message.
        let result =
            unsafe { zmq_sys::zmq_msg_send(self.message.get(), socket.as_mut_ptr(), flags | zmq::DONTWAIT) };
        checked(result).map(|_size| ())
    }

    /// Whether more frames of the same message follow.
    pub(super) fn has_more(&self) -> bool {
        // SAFETY: the message is initialized, and reading it changes nothing.
        unsafe { zmq_sys::zmq_msg_more(self.message.get()) == 1 }
    }
}

/// Frees what was a box of `size` bytes: see `SharedFrame::of`.
unsafe extern "C" fn give_back(data: *mut c_void, size: *mut c_void) {
    let bytes = std::ptr::slice_from_raw_parts_mut(data.cast::<u8>(), size.addr());
    // SAFETY: the caller says that it was one, and nobody uses it any more.
    drop(unsafe { Box::from_raw(bytes) });
}

impl Clone for SharedFrame {
    fn clone(&self) -> Self {
        let clone = Self::empty();
        // SAFETY: both are initialized. The source is only marked as shared; this
        // type is not `Sync`, so nobody looks at it meanwhile.
        unsafe { zmq_sys::zmq_msg_copy(clone.message.get(), self.message.get()) };
        clone
    }
}

impl Drop for SharedFrame {
    fn drop(&mut self) {
        // SAFETY: the message is initialized and closed once.
        unsafe { zmq_sys::zmq_msg_close(self.message.get()) };
    }
}

impl AsRef<[u8]> for SharedFrame {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the message is initialized.
        let size = unsafe { zmq_sys::zmq_msg_size(self.message.get()) };
        // SAFETY: the message is initialized.
        let data = unsafe { zmq_sys::zmq_msg_data(self.message.get()) };
        if size == 0 {
            return &[];
        }
        // SAFETY: libzmq keeps `size` bytes there until the message is closed, which
        // needs `self` by value, and nobody writes to them.
        unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) }
    }
}

impl std::fmt::Debug for SharedFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedFrame({} bytes)", self.as_ref().len())
    }
}

/// The first word of a file in memory that a worker has made and shares with us.
#[derive(Debug)]
pub(super) struct SharedWord {
    address: NonNull<c_void>,
}

const WORD: NonZeroUsize = NonZeroUsize::new(size_of::<AtomicU64>()).unwrap();

impl SharedWord {
    /// The file that this process has under this descriptor.
    ///
    /// # Errors
    /// If it is none of that kind, or we may not look at the process.
    pub(super) fn open(pid: i32, descriptor: u32) -> std::io::Result<Self> {
        let path = format!("/proc/{pid}/fd/{descriptor}");
        // Opening anything else could do something to it.
        let name = format!("/memfd:{} (deleted)", hornpipe_proto::claim::FILE_NAME);
        if read_link(&path)?.as_os_str() != name.as_str() {
            return Err(std::io::Error::other("it is another file"));
        }
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Self::map(&file)
    }

    fn map(file: &File) -> std::io::Result<Self> {
        let seals = fcntl(file, FcntlArg::F_GET_SEALS)?;
        let large_enough = file.metadata()?.len() >= WORD.get() as u64;
        // One that becomes shorter would end whoever reads it.
        if seals & SealFlag::F_SEAL_SHRINK.bits() == 0 || !large_enough {
            return Err(std::io::Error::other("it may become too short"));
        }
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let address = unsafe { mmap(None, WORD, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { address })
    }

    pub(super) fn get(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins at a page, holds a word, cannot become shorter and lives as
        // long as `self`. What is in it is changed by atomic operations here; a worker that writes
        // otherwise can make of it any number, and any number is one.
        unsafe { self.address.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `map`, with this size, and nothing that borrowed it is left.
        if let Err(error) = unsafe { munmap(self.address, WORD.get()) } {
            tracing::debug!(%error, "a word stays mapped");
        }
    }
}
