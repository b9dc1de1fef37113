// SPDX-License-Identifier: MIT

// Writes a ccache as the JDK does: java MakeCcache.java PRINCIPAL PASSWORD SERVICE FILE
// It knows the JDK's own Kerberos, never the format; see README.

import sun.security.krb5.Credentials;
import sun.security.krb5.KrbAsReqBuilder;
import sun.security.krb5.PrincipalName;
import sun.security.krb5.internal.ccache.CredentialsCache;

public final class MakeCcache {
    public static void main(String[] args) throws Exception {
        PrincipalName client = new PrincipalName(args[0]);
        KrbAsReqBuilder builder = new KrbAsReqBuilder(client, args[1].toCharArray());
        builder.action();
        Credentials tgt = builder.getCreds();
        CredentialsCache cache = CredentialsCache.create(client, args[3]);
        cache.update(builder.getCCreds());
        cache.update(Credentials.acquireServiceCreds(args[2], tgt).toCCacheCreds());
        cache.save();
    }
}
