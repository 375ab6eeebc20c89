"""What the remote serves: the only folder that opens a network connection.

From the inside out, each module knowing only those before it:

=====================  ==============================================================================================
`urls`                 addresses that strangers send us (a realm, a ``Location``), parsed strictly; pure
`addresses`            which IP addresses we never connect to; pure
`challenge`            what to do about a 401: who may see a credential; pure
`proxies`              which proxy a host is reached through; pure
`containers_conf`      registries.conf and certs.d, as containers/image reads them
`helpers`              logins that a foreign program keeps
`credentials`          logins, where Apptainer finds them
`connections`          connections to addresses that were checked, with a deadline
`transport`            one HTTP exchange: bounded, vetted, timed; all that knows httpx
`allowance`            how many requests a host still allows
`patience`             when to ask again, and when to stop
`answering`            who we say that we are: logins and tokens, after a 401
`authorization`        what is said to each registry, token by repository
`client`               one registry's protocol: manifests, redirects
`pinning`              what is served, as an entry of the lock
`sources`, `library`,  what each kind of reference is pinned to
`files`
`streams`              a download as an iterator
`resolver`             many references at once, as they complete
=====================  ==============================================================================================

Nothing is imported here: a run that asks no registry pays for none of it.
"""
