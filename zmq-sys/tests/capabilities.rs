//! What the published build of libzmq lacks and hornpipe counts on.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "options and system calls the `zmq` crate does not wrap")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::ffi::c_int;
use std::os::unix::fs::MetadataExt;

use zmq::{Context, DEALER, ROUTER, Socket, SocketType};
use zmq_sys::{ZMQ_DISCONNECT_MSG, ZMQ_ROUTER_NOTIFY, ZMQ_ZAP_ENFORCE_DOMAIN};

/// A socket that fails the test instead of blocking it.
fn socket(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(10_000).unwrap();
    socket
}

/// Binds to an endpoint with a wildcard and connects the other socket to it.
fn join(server: &Socket, client: &Socket, wildcard: &str) {
    server.bind(wildcard).unwrap();
    let endpoint = server.get_last_endpoint().unwrap().unwrap();
    client.connect(&endpoint).unwrap();
}

fn set_option(socket: &mut Socket, option: c_int, value: &[u8]) -> c_int {
    let (socket, data, size) = (socket.as_mut_ptr(), value.as_ptr().cast(), value.len());
    // SAFETY: the socket is open, and libzmq copies `size` bytes out of `value`.
    unsafe { zmq_sys::zmq_setsockopt(socket, option, data, size) }
}

/// An option as the kernel has it, on a descriptor that libzmq opened.
fn kernel_option(fd: c_int, level: c_int, option: c_int) -> c_int {
    let (mut value, mut size) = (0 as c_int, 4);
    let pointer = (&raw mut value).cast();
    // SAFETY: `pointer` and `size` describe one writable `c_int`.
    let rc = unsafe { libc::getsockopt(fd, level, option, pointer, &raw mut size) };
    assert_eq!(rc, 0);
    value
}

#[test]
fn the_library_has_the_version_and_capabilities_we_need() {
    assert_eq!(zmq::version(), (4, 3, 5));
    assert_eq!(zmq::has("draft"), Some(true));
    assert_eq!(zmq::has("ipc"), Some(true));
    assert_eq!(zmq::has("curve"), Some(cfg!(feature = "curve")));
}

#[test]
fn the_draft_options_are_accepted() {
    let mut router = socket(&Context::new(), ROUTER);
    let on = 1_i32.to_ne_bytes();
    assert_eq!(set_option(&mut router, ZMQ_ROUTER_NOTIFY, &on), 0);
    assert_eq!(set_option(&mut router, ZMQ_ZAP_ENFORCE_DOMAIN, &on), 0);
}

#[test]
fn keepalive_reaches_the_kernel() {
    let context = Context::new();
    let (router, dealer) = (socket(&context, ROUTER), socket(&context, DEALER));
    router.set_tcp_keepalive(1).unwrap();
    router.set_tcp_keepalive_idle(61).unwrap();
    router.set_tcp_keepalive_intvl(11).unwrap();
    router.set_tcp_keepalive_cnt(4).unwrap();
    join(&router, &dealer, "tcp://127.0.0.1:*");
    dealer.send("hello", 0).unwrap();

    let mut id = router.recv_msg(0).unwrap();
    let fd = id.gets("__fd").unwrap().parse().unwrap();
    assert_eq!(kernel_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
    assert_eq!(kernel_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 61);
    assert_eq!(kernel_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 11);
    assert_eq!(kernel_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT), 4);
}

#[test]
fn a_closing_dealer_leaves_a_disconnect_message() {
    let context = Context::new();
    let (mut router, dealer) = (socket(&context, ROUTER), socket(&context, DEALER));
    assert_eq!(set_option(&mut router, ZMQ_DISCONNECT_MSG, b"BYE"), 0);
    join(&router, &dealer, "tcp://127.0.0.1:*");
    dealer.send("hello", 0).unwrap();
    let hello = router.recv_multipart(0).unwrap();

    drop(dealer);
    assert_eq!(router.recv_multipart(0).unwrap(), [&hello[0][..], b"BYE"]);
}

#[test]
fn an_ipc_peer_is_known_by_user_group_and_process() {
    let context = Context::new();
    let (router, dealer) = (socket(&context, ROUTER), socket(&context, DEALER));
    join(&router, &dealer, "ipc://*");
    dealer.send("hello", 0).unwrap();

    let ours = std::fs::metadata("/proc/self").unwrap();
    let (uid, gid, pid) = (ours.uid(), ours.gid(), std::process::id());
    let mut id = router.recv_msg(0).unwrap();
    let expected = format!("localhost:{uid}:{gid}:{pid}");
    assert_eq!(id.gets("Peer-Address"), Some(&*expected));
}

#[cfg(feature = "curve")]
#[test]
fn request_and_reply_travel_encrypted() {
    let context = Context::new();
    let (server, client) = (socket(&context, zmq::REP), socket(&context, zmq::REQ));
    let (server_keys, client_keys) = (zmq::CurveKeyPair::new().unwrap(), zmq::CurveKeyPair::new().unwrap());
    server.set_curve_server(true).unwrap();
    server.set_curve_secretkey(&server_keys.secret_key).unwrap();
    client.set_curve_serverkey(&server_keys.public_key).unwrap();
    client.set_curve_publickey(&client_keys.public_key).unwrap();
    client.set_curve_secretkey(&client_keys.secret_key).unwrap();
    join(&server, &client, "tcp://127.0.0.1:*");

    client.send("ping", 0).unwrap();
    assert_eq!(server.recv_bytes(0).unwrap(), b"ping");
    server.send("pong", 0).unwrap();
    assert_eq!(client.recv_bytes(0).unwrap(), b"pong");
    assert_eq!(client.get_mechanism(), Ok(zmq::Mechanism::ZMQ_CURVE));
}

#[test]
fn a_forked_child_may_touch_the_context_without_harm_to_its_parent() {
    let context = Context::new();
    let (router, dealer) = (socket(&context, ROUTER), socket(&context, DEALER));
    join(&router, &dealer, "tcp://127.0.0.1:*");
    dealer.send("before", 0).unwrap();
    assert_eq!(router.recv_multipart(0).unwrap()[1], b"before");

    // SAFETY: the child makes one send and leaves; the C library keeps its
    // allocator usable after a fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: asks the kernel to end the child, should the send hang.
        unsafe { libc::alarm(10) };
        let _outcome = dealer.send("from the child", zmq::DONTWAIT);
        // SAFETY: leaves at once, without the destructors the parent will run.
        unsafe { libc::_exit(0) };
    }
    assert!(0 < child);
    let mut status = -1;
    // SAFETY: `status` is a writable `c_int`, and the child is ours to wait for.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));

    dealer.send("after", 0).unwrap();
    assert_eq!(router.recv_multipart(0).unwrap()[1], b"after");
}
