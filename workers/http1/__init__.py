"""The HTTP/1.1 engine that deliveries are sent with; `workers.transport` names what is public."""
