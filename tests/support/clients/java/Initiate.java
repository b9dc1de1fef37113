// SPDX-License-Identifier: MIT
import com.sun.security.auth.module.Krb5LoginModule;
import java.security.PrivilegedExceptionAction;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;
import javax.security.auth.Subject;
import javax.security.auth.kerberos.KerberosPrincipal;
import javax.security.auth.kerberos.KerberosTicket;
import org.ietf.jgss.GSSContext;
import org.ietf.jgss.GSSCredential;
import org.ietf.jgss.GSSManager;
import org.ietf.jgss.GSSName;
import org.ietf.jgss.Oid;

/**
 * Logs in from a ccache with the JDK's own Kerberos and starts a GSS context with a service.
 *
 * <p>Arguments: the ccache's path, the service (HTTP@localhost). Prints "principal: NAME", "ticket:
 * SERVER" for each ticket the subject ends up with, and "token: BASE64", the context's first token.
 */
public final class Initiate {
    private static final String KRB5 = "1.2.840.113554.1.2.2";

    private Initiate() {}

    public static void main(String[] arguments) throws Exception {
        Subject subject = login(arguments[0]);
        for (KerberosPrincipal principal : subject.getPrincipals(KerberosPrincipal.class)) {
            System.out.println("principal: " + principal.getName());
        }
        byte[] token = initiate(subject, arguments[1]);
        for (String server : servers(subject)) {
            System.out.println("ticket: " + server);
        }
        System.out.println("token: " + Base64.getEncoder().encodeToString(token));
    }

    private static Subject login(String ccache) throws Exception {
        Map<String, String> options = new HashMap<>();
        options.put("useTicketCache", "true");
        options.put("ticketCache", ccache);
        options.put("doNotPrompt", "true");
        Subject subject = new Subject();
        Krb5LoginModule module = new Krb5LoginModule();
        module.initialize(subject, null, new HashMap<>(), options);
        if (!module.login() || !module.commit()) {
            throw new IllegalStateException("no login from " + ccache);
        }
        return subject;
    }

    @SuppressWarnings({"deprecation", "removal"})
    private static byte[] initiate(Subject subject, String service) throws Exception {
        return Subject.doAs(subject, (PrivilegedExceptionAction<byte[]>) () -> firstToken(service));
    }

    private static byte[] firstToken(String service) throws Exception {
        GSSManager manager = GSSManager.getInstance();
        Oid mechanism = new Oid(KRB5);
        GSSName name = manager.createName(service, GSSName.NT_HOSTBASED_SERVICE);
        GSSCredential credential =
                manager.createCredential(
                        null, GSSCredential.DEFAULT_LIFETIME, mechanism, GSSCredential.INITIATE_ONLY);
        GSSContext context =
                manager.createContext(name, mechanism, credential, GSSContext.DEFAULT_LIFETIME);
        context.requestMutualAuth(false);
        try {
            return context.initSecContext(new byte[0], 0, 0);
        } finally {
            context.dispose();
        }
    }

    private static TreeSet<String> servers(Subject subject) {
        TreeSet<String> names = new TreeSet<>();
        for (KerberosTicket ticket : subject.getPrivateCredentials(KerberosTicket.class)) {
            names.add(ticket.getServer().getName());
        }
        return names;
    }
}
