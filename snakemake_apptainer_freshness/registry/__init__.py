"""What the remote serves: the only folder that opens a network connection.

From the inside out, each module knowing only those before it:

=====================  ==============================================================================================
`urls`                 addresses that strangers send us (a realm, a ``Location``), parsed strictly; pure
`addresses`            which IP addresses we never connect to; pure
`challenge`            what to do about a 401: who may see a credential; pure
`proxies`              which proxy a host is reached through; pure
`containers_conf`      registries.conf and certs.d, as containers/image reads them
`credentials`          logins, where Apptainer finds them: its files, and helper programs
`connections`          connections to addresses that were checked, with a deadline
`transport`            one HTTP exchange: bounded, vetted, timed; all that knows httpx
`retry`                when to ask again, and when to stop; how many requests a host still allows
`tokens`               who we say that we are after a 401: logins, and tokens by repository
`listings`             the tags and the codes of errors in an answer; pure
`client`               one registry's protocol: manifests, redirects
`sources`, `library`,  what each kind of reference is pinned to
`web`, `local`
`network`              which of them answers for a reference
`resolver`             many references at once, as they complete; a download as an iterator
=====================  ==============================================================================================

Nothing is imported here: a run that asks no registry pays for none of it.
"""
