"""The texts of a bundle: a unit for systemd, a Containerfile, a README of one screen, recipes for other runtimes."""

from __future__ import annotations

from edgellm.profiles.devices import Device

#: Where the unit and the Containerfile expect the bundle.
PLACE = "/opt/edgellm"

#: Settings of `systemd.exec(5)` that leave the service nothing but its model, its port and its cache.
_HARDENED = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateUsers=yes
PrivateDevices=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
IPAddressDeny=any
IPAddressAllow=localhost
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=sched_setaffinity sched_setscheduler setpriority
UMask=0077"""


def unit(model: str, python: str, memory_bytes: int) -> str:
    """A systemd unit that serves the model on this machine alone, as nobody in particular."""
    return f"""\
[Unit]
Description=edgellm: {model}
After=network.target

[Service]
ExecStartPre=/usr/bin/python{python} {PLACE}/edgellm-bundle verify
ExecStart=/usr/bin/python{python} {PLACE}/edgellm-bundle serve
Environment=EDGELLM_CACHE=/var/cache/edgellm
CacheDirectory=edgellm
MemoryMax={memory_bytes}
Restart=on-failure
RestartPreventExitStatus=2 3
{_HARDENED}

[Install]
WantedBy=multi-user.target
"""


def containerfile(python: str) -> str:
    """What `podman build` or `docker build` makes an image of, in the bundle's folder."""
    return f"""\
FROM docker.io/library/python:{python}-slim
COPY . {PLACE}
RUN useradd --system --create-home edgellm
USER edgellm
RUN {PLACE}/edgellm-bundle verify
ENTRYPOINT ["{PLACE}/edgellm-bundle"]
CMD ["chat"]
"""


def readme(model: str, device: Device, python: str, *, serve: bool) -> str:
    """What to do with the bundle, on one screen."""
    served = f"""
    ./edgellm-bundle serve                   http://127.0.0.1:8080, the protocols of OpenAI and Anthropic
    sudo cp -r . {PLACE} && sudo systemctl enable --now {PLACE}/edgellm.service
"""
    return f"""\
# {model} for {device.title}

Needs Python {python} for {device.arch} and no network, compiler or package. Made by edgellm.

    ./edgellm-bundle verify                  exit code 3 names what is damaged, or what this machine lacks
    ./edgellm-bundle run "Tell me a story."
    ./edgellm-bundle chat
    ./edgellm-bundle profile --out here.json speed, memory, energy; `edgellm report` joins such files
    ./edgellm-bundle tune                    finds faster settings; run, chat and serve then use them
{served if serve else ""}
The first start unpacks `wheels/` into `.runtime/`, or below $EDGELLM_CACHE where this folder is read-only.
`bundle.json` says what is inside, what it was made of, and what it needs. `sha256sum -c SHA256SUMS` checks it, too.
"""


def modelfile(gguf: str, n_ctx: int) -> str:
    """What `ollama create NAME -f Modelfile` makes a model of."""
    return f"FROM ./{gguf}\nPARAMETER num_ctx {n_ctx}\n"


def llamafile(gguf: str, n_ctx: int, threads: int) -> str:
    """A script that runs the model with a llamafile program on the PATH."""
    return f"""\
#!/bin/sh
exec llamafile -m "$(dirname "$0")/{gguf}" -c {n_ctx} -t {threads} "$@"
"""
