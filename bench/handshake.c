/* SPDX-License-Identifier: MIT */
/*
 * handshake SERVICE: a GSS handshake with mutual authentication, both sides in one process.
 *
 * Knows GSSAPI alone. The initiator uses KRB5CCNAME, the acceptor KRB5_KTNAME; SERVICE is such as
 * HTTP@localhost. Ends with status 0 when both sides have a context.
 */
#include <gssapi/gssapi.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what, OM_uint32 major, OM_uint32 minor)
{
    if (!GSS_ERROR(major))
        return 0;
    fprintf(stderr, "handshake: %s: %u %u\n", what, (unsigned)major, (unsigned)minor);
    return 1;
}

int main(int argc, char **argv)
{
    gss_ctx_id_t initiator = GSS_C_NO_CONTEXT, acceptor = GSS_C_NO_CONTEXT;
    gss_buffer_desc name = GSS_C_EMPTY_BUFFER, there = GSS_C_EMPTY_BUFFER;
    gss_buffer_desc back = GSS_C_EMPTY_BUFFER;
    gss_name_t target = GSS_C_NO_NAME;
    OM_uint32 major, minor, ignored;
    int status = 1;

    if (argc != 2)
        return 2;
    name.value = argv[1];
    name.length = strlen(argv[1]);
    major = gss_import_name(&minor, &name, GSS_C_NT_HOSTBASED_SERVICE, &target);
    if (failed("name", major, minor))
        goto done;
    major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL, &initiator, target, GSS_C_NO_OID,
                                 GSS_C_MUTUAL_FLAG, 0, GSS_C_NO_CHANNEL_BINDINGS,
                                 GSS_C_NO_BUFFER, NULL, &there, NULL, NULL);
    if (failed("initiate", major, minor))
        goto done;
    major = gss_accept_sec_context(&minor, &acceptor, GSS_C_NO_CREDENTIAL, &there,
                                   GSS_C_NO_CHANNEL_BINDINGS, NULL, NULL, &back, NULL, NULL,
                                   NULL);
    if (failed("accept", major, minor))
        goto done;
    gss_release_buffer(&ignored, &there);
    major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL, &initiator, target, GSS_C_NO_OID,
                                 GSS_C_MUTUAL_FLAG, 0, GSS_C_NO_CHANNEL_BINDINGS, &back, NULL,
                                 &there, NULL, NULL);
    if (failed("finish", major, minor))
        goto done;
    status = major == GSS_S_COMPLETE ? 0 : 1;

done:
    gss_release_buffer(&ignored, &there);
    gss_release_buffer(&ignored, &back);
    gss_release_name(&ignored, &target);
    gss_delete_sec_context(&ignored, &initiator, GSS_C_NO_BUFFER);
    gss_delete_sec_context(&ignored, &acceptor, GSS_C_NO_BUFFER);
    return status;
}
