/* A plain REQ client in C: req_client ENDPOINT BODY prints the reply. */

#include <stdio.h>
#include <string.h>
#include <zmq.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_REQ);
    int timeout_ms = 20000;
    int linger = 0;
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_connect(socket, argv[1]) != 0 || zmq_send(socket, argv[2], strlen(argv[2]), 0) < 0) {
        fprintf(stderr, "%s\n", zmq_strerror(zmq_errno()));
        return 1;
    }
    char reply[4096];
    int size = zmq_recv(socket, reply, sizeof reply, 0);
    if (size < 0 || size > (int) sizeof reply) {
        fprintf(stderr, "%s\n", zmq_strerror(zmq_errno()));
        return 1;
    }
    fwrite(reply, 1, (size_t) size, stdout);
    zmq_close(socket);
    zmq_ctx_term(context);
    return 0;
}
