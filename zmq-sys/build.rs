//! Builds libzmq as its own `./configure` would on Linux, with drafts and CURVE.
//!
//! `zeromq-src` compiles the sources with an empty `platform.hpp`, so whatever
//! `./configure` finds out must come from here. Without it libzmq still builds,
//! and quietly does nothing where a feature is missing.
#![expect(unsafe_code, reason = "the compiler's flags travel in the environment")]
#![expect(clippy::disallowed_methods, reason = "so does all that cargo tells us")]

use std::env;

/// What any Linux of the last ten years offers, with glibc and musl alike.
const LINUX: &str = concat!(
    // A forked child that touches an inherited context must not abort its parent.
    " -DHAVE_FORK",
    // Timers must not move when somebody sets the wall clock.
    " -DHAVE_CLOCK_GETTIME",
    // One descriptor for each wake-up channel instead of a socket pair.
    " -DZMQ_HAVE_EVENTFD -DZMQ_HAVE_EVENTFD_CLOEXEC",
    // No descriptor may leak into a program that a worker executes.
    " -DZMQ_HAVE_SOCK_CLOEXEC -DHAVE_ACCEPT4 -DZMQ_IOTHREAD_POLLER_USE_EPOLL_CLOEXEC",
    // Socket options that otherwise report success and do nothing.
    " -DZMQ_HAVE_SO_KEEPALIVE -DZMQ_HAVE_TCP_KEEPCNT -DZMQ_HAVE_TCP_KEEPIDLE",
    " -DZMQ_HAVE_TCP_KEEPINTVL -DZMQ_HAVE_SO_BINDTODEVICE -DZMQ_HAVE_SO_PRIORITY",
    " -DZMQ_HAVE_BUSY_POLL",
    // `Peer-Address` names user, group and process of an ipc peer.
    " -DZMQ_HAVE_SO_PEERCRED",
    // Endpoints: wildcards for ipc, interface names for tcp.
    " -DHAVE_MKDTEMP -DZMQ_HAVE_IFADDRS -DHAVE_IF_NAMETOINDEX",
    // Threads with a name in `top`, and pinned to a CPU when asked.
    " -DZMQ_HAVE_PTHREAD_SETNAME_2 -DZMQ_HAVE_PTHREAD_SET_AFFINITY",
    // Queues aligned to cache lines, and checked overrides in C++.
    " -DHAVE_POSIX_MEMALIGN=1 -DZMQ_CACHELINE_SIZE=64 -DZMQ_HAVE_NOEXCEPT",
);

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // `zeromq-src` keeps its compiler to itself. It does read `CXXFLAGS`, where
        // the user's own flags stay in front of ours.
        let mut flags = env::var_os("CXXFLAGS").unwrap_or_default();
        flags.push(LINUX);
        // SAFETY: a build script has one thread until it starts the compiler below.
        unsafe { env::set_var("CXXFLAGS", flags) };
    }
    let mut library = zeromq_src::Build::new();
    library.enable_draft(true);
    if cfg!(feature = "curve") {
        library.with_libsodium(Some(sodium()?));
    }
    library.build();
    Ok(())
}

/// Where the crate that links libsodium has put it.
fn sodium() -> Result<zeromq_src::LibLocation, String> {
    let folder = |key: &str| {
        env::var_os(key).ok_or_else(|| {
            format!(
                "{key} is not set: libzmq needs libsodium's headers and static library; \
                 unset SODIUM_LIB_DIR and SODIUM_USE_PKG_CONFIG to build them from source"
            )
        })
    };
    let (library, include) = (folder("DEP_SODIUM_LIB")?, folder("DEP_SODIUM_INCLUDE")?);
    Ok(zeromq_src::LibLocation::new(library, include))
}
