"""What the pages of endpoints say after something was done: `?done=` of the address, as a sentence."""

NOTICES = {
    "paused": "The endpoint is paused. Events keep collecting, and wait until it is resumed.",
    "resumed": "The endpoint is resumed: what waits is being sent.",
    "enabled": "The endpoint is enabled: new events go to it, and what waits is being sent.",
    "disabled": "The endpoint is disabled. It gets no new events; what waits stays until it is enabled or too old.",
    "deleted": "The endpoint is deleted. What waited for it is cancelled; what was delivered stays on record.",
    "saved": "The settings are saved, and hold from the next request on.",
    "nothing": "Nothing was changed, so nothing was saved.",
    "created": "The endpoint is there. Events that match go to it from now on.",
    "probed": "The next delivery that waits goes out as a probe.",
    "closed": "The circuit is closed. The load comes back step by step.",
    "held": "The circuit is held open: nothing is sent until somebody closes or probes it.",
    "rotated": "The secret is rotated: the new one signs from the next request on.",
    "revoked": "The earlier secrets sign no more, from the next request on.",
    "revealed": "The secret is shown below. That you looked is in the audit log.",
}
