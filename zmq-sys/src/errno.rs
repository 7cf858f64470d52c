//! Error numbers that `zmq_errno` returns: the system's, and libzmq's own.

use std::ffi::c_int;

/// Numbers of the operating system.
pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBUSY, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINPROGRESS, EINTR,
    EINVAL, EMFILE, EMSGSIZE, ENAMETOOLONG, ENETDOWN, ENOBUFS, ENODEV, ENOENT, ENOMEM, ENOTCONN, ENOTSOCK,
    ENOTSUP, EPROTO, EPROTONOSUPPORT,
};

/// libzmq counts its own numbers from here, out of the system's way.
const HAUSNUMERO: c_int = 156_384_712;

// Conditions only libzmq knows.
pub const EFSM: c_int = HAUSNUMERO + 51;
pub const ENOCOMPATPROTO: c_int = HAUSNUMERO + 52;
pub const ETERM: c_int = HAUSNUMERO + 53;
pub const EMTHREAD: c_int = HAUSNUMERO + 54;

// Stand-ins for system numbers on systems that lack them. Linux has them all, but
// the `zmq` crate names them.
pub const ENOTSUP_ALT: c_int = HAUSNUMERO + 1;
pub const EPROTONOSUPPORT_ALT: c_int = HAUSNUMERO + 2;
pub const ENOBUFS_ALT: c_int = HAUSNUMERO + 3;
pub const ENETDOWN_ALT: c_int = HAUSNUMERO + 4;
pub const EADDRINUSE_ALT: c_int = HAUSNUMERO + 5;
pub const EADDRNOTAVAIL_ALT: c_int = HAUSNUMERO + 6;
pub const ECONNREFUSED_ALT: c_int = HAUSNUMERO + 7;
pub const EINPROGRESS_ALT: c_int = HAUSNUMERO + 8;
pub const ENOTSOCK_ALT: c_int = HAUSNUMERO + 9;
pub const EMSGSIZE_ALT: c_int = HAUSNUMERO + 10;
