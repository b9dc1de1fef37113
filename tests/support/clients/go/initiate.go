// SPDX-License-Identifier: MIT

// Initiate loads a ccache with gokrb5, gets a service ticket with it, and makes a GSS token of that.
//
// Arguments: krb5.conf, the ccache's path, the service (HTTP/localhost). Prints "principal: NAME",
// "ticket: SERVER" for each entry of the ccache, and "token: BASE64".
package main

import (
	"encoding/base64"
	"fmt"
	"os"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/spnego"
)

func main() {
	if err := initiate(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "initiate:", err)
		os.Exit(1)
	}
}

func initiate(configuration, path, service string) error {
	conf, err := config.Load(configuration)
	if err != nil {
		return err
	}
	ccache, err := credentials.LoadCCache(path)
	if err != nil {
		return err
	}
	describe(ccache)
	kerberos, err := client.NewFromCCache(ccache, conf, client.DisablePAFXFAST(true))
	if err != nil {
		return err
	}
	defer kerberos.Destroy()
	token, err := firstToken(kerberos, service)
	if err != nil {
		return err
	}
	fmt.Println("token:", base64.StdEncoding.EncodeToString(token))
	return nil
}

func describe(ccache *credentials.CCache) {
	name := ccache.GetClientPrincipalName()
	fmt.Printf("principal: %s@%s\n", name.PrincipalNameString(), ccache.GetClientRealm())
	for _, entry := range ccache.GetEntries() {
		server := entry.Server.PrincipalName
		fmt.Printf("ticket: %s@%s\n", server.PrincipalNameString(), entry.Server.Realm)
	}
}

func firstToken(kerberos *client.Client, service string) ([]byte, error) {
	ticket, key, err := kerberos.GetServiceTicket(service)
	if err != nil {
		return nil, err
	}
	flags := []int{gssapi.ContextFlagInteg, gssapi.ContextFlagConf}
	token, err := spnego.NewKRB5TokenAPREQ(kerberos, ticket, key, flags, []int{})
	if err != nil {
		return nil, err
	}
	return token.Marshal()
}
