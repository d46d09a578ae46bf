"""Model architectures, said once for every writer and engine, and the numpy oracle that checks them."""
