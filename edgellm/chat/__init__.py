"""Conversation and terminal chat."""

from edgellm.chat.conversation import Conversation, Message, Reply
from edgellm.chat.template import template_of

__all__ = ["Conversation", "Message", "Reply", "template_of"]
