/* Turns each frame round, and speaks the protocol itself: cc -o reverse reverse.c -lzmq
 *   hornpipe serve 6660 6661 -- ./reverse                                                */
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
static void say(void *socket, const char *state) {
    zmq_send(socket, "", 0, ZMQ_SNDMORE);
    zmq_send(socket, state, strlen(state), 0);
}
int main(void) {
    void *socket = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    zmq_pollitem_t idle = {socket, 0, ZMQ_POLLIN, 0};
    zmq_msg_t frame;
    if (zmq_connect(socket, getenv("HORNPIPE_BACKEND")) || zmq_msg_init(&frame)) return 1;
    for (say(socket, "waiting");; say(socket, "waiting")) {     /* again each second: the router may be a new one */
        if (zmq_poll(&idle, 1, 1000) <= 0) continue;
        say(socket, "processing");
        for (int i = 0, more = 1; more; i++) {      /* an empty frame, the token, no details, and the body: all go back */
            more = (zmq_msg_recv(&frame, socket, 0), zmq_msg_more(&frame));
            char *body = zmq_msg_data(&frame);
            for (size_t a = 0, b = zmq_msg_size(&frame); i > 2 && a + 1 < b; a++) { char c = body[a]; body[a] = body[--b]; body[b] = c; }
            zmq_msg_send(&frame, socket, more ? ZMQ_SNDMORE : 0);
        }
    }
}
