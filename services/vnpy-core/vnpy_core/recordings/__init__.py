"""Files of ticks and bars: reading what others wrote, and writing what others read."""
