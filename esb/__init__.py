"""esb: a lightweight asyncio service bus."""
